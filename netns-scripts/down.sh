#!/bin/sh
# Takes away all that up.sh or `trunkline up` made under this name: the forwarder, the processes in
# the namespaces, the namespaces with their veths, and /run/trunkline/NAME.
#
#   sudo ./down.sh [NAME]    NAME is `byhand` unless given
#
# It keeps no record of what was made and goes by names alone, so it is right for a lab that is
# whole, made half-way, removed half-way, or not there at all.
set -eu

name=${1:-byhand}
# Without this check, a name such as `..` or an empty one would remove what is not ours.
case $name in
'' | [!a-z]* | *[!a-z0-9]*)
    echo "down.sh: a name has lower-case letters and digits, a letter first: $name" >&2
    exit 1
    ;;
esac
if [ "$(id -u)" != 0 ]; then
    echo "down.sh: namespaces and veths need root" >&2
    exit 1
fi
run=/run/trunkline/$name

# A shell in there would be ended before it could go on.
if ip netns identify $$ | grep -q "^$name-"; then
    echo "down.sh: this is inside one of $name's namespaces; leave it first" >&2
    exit 1
fi

# start_of PID: when that process started, in clock ticks, or nothing if it does not run. The
# kernel gives the number of a process that is gone to a later one; number and start together
# belong to one process only.
start_of() {
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 0
    # The program's name is in brackets and may hold spaces; what follows it are fields 3 and on.
    # shellcheck disable=SC2086 # the fields are meant to be split
    set -- ${stat##*)}
    # Field 3 is Z for one that has ended and was not waited for, field 22 is the start.
    [ "$1" = Z ] || echo "${20}"
}

# end SECONDS PID START: asks a process to end, and kills it if it has not done so by then.
end() {
    [ -n "$3" ] || return 0
    for signal in TERM KILL; do
        tenths=$(($1 * 10))
        [ "$(start_of "$2")" != "$3" ] || kill -s $signal "$2" 2>/dev/null || true
        while [ "$(start_of "$2")" = "$3" ] && [ $tenths -gt 0 ]; do
            sleep 0.1
            tenths=$((tenths - 1))
        done
    done
}

# living: the processes in this lab's namespaces.
living() {
    for file in /run/netns/"$name"-*; do
        [ ! -e "$file" ] || ip netns pids "${file##*/}"
    done
}

# The forwarder goes first: it lives in the machine's own namespace, and its sockets would keep
# the namespaces alive after they have lost their names. Who it is stands in the lab's folder as
# {"pid":123,"start_time":456}. When asked to end it cleans up by itself, which takes a moment.
if [ -e "$run/pid" ]; then
    pid=$(sed -n 's/.*"pid": *\([0-9]*\).*/\1/p' "$run/pid")
    start=$(sed -n 's/.*"start_time": *\([0-9]*\).*/\1/p' "$run/pid")
    end 10 "$pid" "$start"
fi

# A namespace lives as long as a process is in it, whether it has a name or not. One process may
# start another while it is being ended, so they are looked for until there are none.
rounds=8
while pids=$(living) && [ -n "$pids" ]; do
    if [ $rounds = 0 ]; then
        # The names stay, so that whoever looks into it can still find the processes by them.
        echo "down.sh: these processes do not end:" "$pids" >&2
        exit 1
    fi
    rounds=$((rounds - 1))
    for pid in $pids; do
        end 1 "$pid" "$(start_of "$pid")"
    done
done

# A veth ends with the namespace of either of its ends, and addresses, routes and neighbours end
# with it, so removing the namespaces removes everything.
for file in /run/netns/"$name"-*; do
    [ ! -e "$file" ] || ip netns delete "${file##*/}"
done
rm -rf "$run"
