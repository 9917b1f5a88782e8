# guard.sh WATCH_S FOLDER...: makes a private folder and removes it when the connection ends.
#
# Prints "folder PATH", or "failed WHY". Then reads words from stdin: each is a sign of life, "end" or the end of the
# input ends it. Where the input neither ends nor says anything, because the network fell silent, a second process looks
# every WATCH_S seconds. Folders of earlier connections whose guard is gone are removed first.
watch=$1
shift
wanted_kib=102400
# Numbers of processes say nothing on another host, or in another container, that shares the folder.
here="$(uname -n) $(readlink /proc/self/ns/pid 2>/dev/null || echo none)"

end() {
  trap '' HUP INT TERM PIPE
  # A command that starts only now looks for the guard after it has written down its number: it ends by itself.
  mv -f "$folder/guard" "$folder/over" 2>/dev/null || rm -f "$folder/guard"
  stop_workers "$folder"
  rm -rf "$folder" 2>/dev/null || { sleep 1; rm -rf "$folder"; }
}

is_number() {
  case $1 in
    '' | *[!0-9]*) return 1 ;;
  esac
}

# remove_stale FOLDER: only what a guard of this host says was its own is removed with all that is in it.
remove_stale() {
  for old in "$1"/.edgelstm-run.??????????; do
    if [ ! -d "$old" ] || [ -L "$old" ] || [ ! -O "$old" ]; then continue; fi
    process='' start='' where=''
    for file in "$old/over" "$old/guard"; do
      if [ -f "$file" ] && [ ! -L "$file" ]; then read -r process start where < "$file"; fi
    done
    if ! is_number "$process" || ! is_number "$start" || [ -z "$where" ]; then
      if [ -n "$(find "$old" -prune -mmin +60 2>/dev/null)" ]; then
        rm -f "$old/probe"
        rmdir "$old"
      fi
    elif [ "$where" = "$here" ] && [ "$(identity "$process")" != "$process $start" ]; then
      stop_workers "$old"
      rm -rf "$old"
    fi
  done
}

# usable FOLDER: whether files can be written there and run.
usable() {
  probe=$(mktemp -d "$1/.edgelstm-run.XXXXXXXXXX" 2>/dev/null) || return 1
  interpreter=/bin/sh
  if [ ! -x "$interpreter" ]; then interpreter=/system/bin/sh; fi  # Android before 10
  printf '#!%s\nexit 0\n' "$interpreter" > "$probe/probe" && chmod 700 "$probe/probe" && "$probe/probe"
  status=$?
  rm -rf "$probe"
  return $status
}

place='' most=-1
for base in "$TMPDIR" "$@"; do
  case $base in
    '~'*) base=$HOME${base#'~'} ;;
  esac
  if [ ! -d "$base" ]; then continue; fi
  remove_stale "$base" 2>/dev/null
  if [ "$most" -ge "$wanted_kib" ] || ! usable "$base" 2>/dev/null; then continue; fi
  free=$(free_kib "$base")
  if [ "$free" -gt "$most" ]; then place=$base most=$free; fi
  if [ "$base" = "$TMPDIR" ]; then most=$wanted_kib; fi  # whoever sets it means it
done
if [ -z "$place" ]; then
  echo "failed no folder there can be written to and run from (tried ${TMPDIR:+$TMPDIR }$*)"
  exit 97
fi
folder=$(mktemp -d "$place/.edgelstm-run.XXXXXXXXXX") && echo "$(identity $$) $here" > "$folder/guard" && echo 0 > "$folder/beat" || {
  rm -rf "$folder"
  echo "failed nothing can be written to $place, where $(free_kib "$place") KiB are free"
  exit 97
}
trap 'end; exit 1' HUP INT TERM

(
  last=
  while sleep "$watch"; do
    now=$(cat "$folder/beat" 2>/dev/null)
    if [ ! -d "$folder" ]; then exit 0; fi
    if [ "$now" = "$last" ] || ! kill -0 $$ 2>/dev/null; then
      end
      kill -KILL $$ 2>/dev/null
      exit 0
    fi
    last=$now
  done
) < /dev/null > /dev/null 2>&1 &
watcher=$!

echo "folder $folder"
beats=0
while read -r word; do
  if [ "$word" = end ]; then break; fi
  beats=$((beats + 1))
  echo "$beats" > "$folder/beat"
done
end
end_tree "$watcher"
wait 2>/dev/null
echo gone
