# pythons.sh CODE WORDS ALL PYTHON...: runs the code with these words in each Python there is, up to the first that likes
# it, or in ALL (1) of them.
code=$1 words=$2 all=$3
shift 3
seen=
for python in "$@"; do
  case $python in
    '~'*) python=$HOME${python#'~'} ;;
  esac
  case $python in
    */venv/bin/python) [ -f "${python%/bin/python}/edgelstm.json" ] || continue ;;
  esac
  if path=$(command -v "$python") && [ -n "$path" ]; then
    if [ "$path" != "$python" ]; then  # a name; python3 mostly is one of the others
      real=$(readlink -f "$path")
      case $seen in
        *" $real "*) continue ;;
      esac
      seen="$seen $real "
    fi
    echo "python $path"
    "$path" -I -B -c "$code" $words < /dev/null && [ "$all" = 0 ] && break
  fi
done
exit 0
