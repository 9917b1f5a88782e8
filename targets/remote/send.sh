# send.sh FOLDER NAME SHA256 PYTHON [is-there]: writes stdin to FOLDER/NAME, if it has that hash. With is-there the content
# is in NAME.part already.
cd "$1" 2>/dev/null && [ -f guard ] || exit 96
[ "$5" = is-there ] || cat > "$2.part" || {
  rm -f "$2.part"
  free_kib .
  exit 95
}
if command -v sha256sum > /dev/null; then
  sum=$(sha256sum < "$2.part")
else
  sum=$("$4" -I -B -c 'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())' < "$2.part")
fi
[ "${sum%% *}" = "$3" ] && mv "$2.part" "$2" || {
  rm -f "$2.part"
  exit 94
}
