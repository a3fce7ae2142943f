/* SPDX-License-Identifier: MIT */
/* Linker sets: what exists registers itself once, where it is defined; nobody keeps a list.
 *
 * SET_ADD(engines, &interp_engine) puts one pointer into the section set_engines; the linker gathers the
 * pointers of all files and names both ends. SET_FOREACH walks them. The order is the link order, which
 * is the order of file names: whoever wants another sorts by a field of his own. */
#pragma once

#define SET_DECLARE(type, set)                                                                                         \
	extern const type *const __start_set_##set[] __attribute__((weak));                                            \
	extern const type *const __stop_set_##set[] __attribute__((weak))

#define SET_ADD(type, set, object)                                                                                     \
	static const type *const set_##set##_##object __attribute__((used, section("set_" #set))) = &object

#define SET_FOREACH(type, var, set)                                                                                    \
	for (const type *const *var##_at = __start_set_##set, *var;                                                    \
	     var##_at < __stop_set_##set && ((var = *var##_at), 1); var##_at++)
