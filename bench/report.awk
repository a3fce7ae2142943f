# SPDX-License-Identifier: MIT
# Makes the table. Reads first the list of benchmarks (name, group, unit, its size, work in an iteration), then the
# results (monitor, name, value; several rounds give several lines). The variable monitors names the columns.

BEGIN {
        columns = split(monitors, monitor, " ")
        peer = monitor[columns] == "tcg" ? "tcg" : ""
}

FNR == 1 { files++ }

files == 1 {
        name[++benches] = $1
        group[$1] = $2
        unit[$1] = $3
        per_iteration[$1] = $4 / $5
        if (!($2 in group_seen)) {
                group_seen[$2] = 1
                order[++groups] = $2
        }
        next
}

{ value[$1, $2, ++rounds[$1, $2]] = $3 }

# The median of the rounds, or the best; 0 when there is no figure.
function figure(who, what,    n, i, j, sorted, item) {
        n = rounds[who, what]
        for (i = 1; i <= n; i++) {
                item = value[who, what, i]
                for (j = i; j > 1 && sorted[j - 1] > item; j--)
                        sorted[j] = sorted[j - 1]
                sorted[j] = item
        }
        if (!n)
                return 0
        if (best)
                return what ~ /^boot-/ ? sorted[1] : sorted[n]
        return n % 2 ? sorted[(n + 1) / 2] : (sorted[n / 2] + sorted[n / 2 + 1]) / 2
}

function show(x) {
        if (!x)
                return "-"
        return sprintf(x >= 100 ? "%.0f" : x >= 10 ? "%.1f" : x >= 1 ? "%.2f" : x >= 0.1 ? "%.3f" : "%.4f", x)
}

function ratio(a, b) { return a && b ? a / b : 0 }

# Prints what stands in the columns: the figures at[], then native/each, then each/TCG. Times have no native figure.
function row(title, what, at, times,    i) {
        printf "%-20s%-6s", title, what
        for (i = 1; i <= columns; i++)
                printf "%10s", show(at[monitor[i]])
        printf "  |"
        for (i = 2; i <= columns; i++)
                printf "%9s", times ? "" : show(ratio(at["native"], at[monitor[i]]))
        if (peer) {
                printf "  |"
                for (i = 2; i < columns; i++)
                        printf "%9s", show(times ? ratio(at[peer], at[monitor[i]]) : ratio(at[monitor[i]], at[peer]))
        }
        printf "\n"
}

function head(    i) {
        printf "%-26s", ""
        for (i = 1; i <= columns; i++)
                printf "%10s", monitor[i]
        printf "  |"
        for (i = 2; i <= columns; i++)
                printf "%9s", monitor[i]
        if (peer && columns > 2) {
                printf "  |"
                for (i = 2; i < columns; i++)
                        printf "%9s", monitor[i]
        }
        printf "\n"
}

function above() {
        printf "%*s", 26 + 10 * columns, "rates"
        printf "  |%*s", 9 * (columns - 1), "slower than native"
        if (peer && columns > 2)
                printf "  |%*s", 9 * (columns - 2), "faster than TCG"
        printf "\n"
}

# A mean is over the benchmarks for which both have a figure. A star tells that others were measured.
function mean_of_ratios(g, a, b,    i, r, sum, n) {
        for (i = 1; i <= benches; i++)
                if (group[name[i]] == g && (r = ratio(figure(a, name[i]), figure(b, name[i])))) {
                        sum += log(r)
                        n++
                }
        if (!n)
                return "-"
        if (n < measured[g])
                starred = 1
        return show(exp(sum / n)) (n < measured[g] ? "*" : "")
}

function means(g,    i) {
        printf "%-26s%*s  |", g ", geometric mean", 10 * columns, ""
        for (i = 2; i <= columns; i++)
                printf "%9s", mean_of_ratios(g, "native", monitor[i])
        if (peer) {
                printf "  |"
                for (i = 2; i < columns; i++)
                        printf "%9s", mean_of_ratios(g, monitor[i], peer)
        }
        printf "\n\n"
}

# Instructions a second over the integer loops: iterations a second, times what an iteration takes.
function mips(who,    i, n, sum, rate) {
        for (i = 1; i <= benches; i++)
                if (rate = figure(who, name[i]) * per_iteration[name[i]] * figure("instructions", name[i])) {
                        sum += log(rate)
                        n++
                }
        return n ? exp(sum / n) / 1e6 : 0
}

function show_group(g,    i, j, at, shown) {
        for (i = 1; i <= benches; i++) {
                if (group[name[i]] != g)
                        continue
                shown = 0
                for (j = 1; j <= columns; j++)
                        if (at[monitor[j]] = figure(monitor[j], name[i]))
                                shown = 1
                if (shown) {
                        row(name[i], unit[name[i]], at, 0)
                        measured[g]++
                }
        }
        if (measured[g])
                means(g)
}

function show_times(what, title,    j, at) {
        for (j = 1; j <= columns; j++)
                at[monitor[j]] = figure(monitor[j], what)
        row(title, "s", at, 1)
}

# What bt is not to fall below, in times TCG, each with its figure: the kernel rows, together and each, and the boot.
function floors(    i, r, least, which) {
        for (i = 1; i <= benches; i++)
                if (group[name[i]] == "kernel" && (r = ratio(figure("bt", name[i]), figure(peer, name[i]))) && (!least || r < least)) {
                        least = r
                        which = name[i]
                }
        if (least) {
                floor("kernel, geometric mean", 2.5, mean_of_ratios("kernel", "bt", peer))
                floor("kernel, the least (" which ")", 1.5, show(least))
        }
        if (r = ratio(figure(peer, "boot-to-power-off"), figure("bt", "boot-to-power-off")))
                floor("start to power-off", 1, show(r))
}

function floor(what, least, is) {
        if (!floor_told++)
                printf "\nfloors of bt, times TCG\n"
        printf "  %-32s at least %-4s %8s%s\n", what, least, is, is + 0 < least ? "  (below)" : ""
}

END {
        above()
        head()
        for (g = 1; g <= groups; g++)
                show_group(order[g])
        for (m = 1; m <= columns; m++)
                counted += at[monitor[m]] = mips(monitor[m])
        if (counted)
                row("integer loops", "MIPS", at, 0)
        show_times("boot-to-init", "start to /init")
        show_times("boot-to-power-off", "start to power-off")
        for (m = 2; peer && m < columns; m++)
                if (monitor[m] == "bt")
                        floors()
        if (starred)
                printf "\n* without the benchmarks that have no figure\n"
}
