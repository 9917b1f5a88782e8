# Functions of the scripts that run on a device: POSIX sh, /proc, and what coreutils, busybox and toybox share.

# field N PID: the Nth word after the name in /proc/PID/stat. Read by another process than that one: an emulator may
# answer a process that asks about itself with zeros.
field() {
  set -- "$1" $(sed 's/.*) //' "/proc/$2/stat" 2>/dev/null)
  shift "$1" 2>/dev/null
  echo "$1"
}

# identity PID: what tells this process from a later one of the same number.
identity() { echo "$1 $(field 20 "$1" 2>/dev/null)"; }

# end_tree PID: ends the process and all that it started. It is halted first, or it might start another meanwhile; and cat
# reads the list, since sed gives up at a process that ends meanwhile.
end_tree() {
  kill -STOP "$1" 2>/dev/null
  for child in $(cat /proc/[0-9]*/stat 2>/dev/null | sed -n 's/^\([0-9]*\) (.*) [A-Za-z] '"$1"' .*/\1/p'); do
    end_tree "$child"
  done
  kill -KILL "$1" 2>/dev/null
}

# stop_worker FILE: ends what the file names, if it still is that process.
stop_worker() {
  read -r process start < "$1" || return 0
  if [ "$(identity "$process")" = "$process $start" ]; then
    end_tree "$process"
  fi
  rm -f "$1"
}

stop_workers() {
  for file in "$1"/*.worker; do
    if [ -f "$file" ]; then stop_worker "$file"; fi
  done
}

free_kib() {
  set -- $(df -Pk "$1" 2>/dev/null | tail -n 1)
  echo "${4:-0}"
}
