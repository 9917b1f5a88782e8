# environment.sh prepare|finish|swap|drop FOLDER: the virtual environment FOLDER/venv. It is built as FOLDER/venv.new, and
# the one before is kept as FOLDER/venv.old until the new one is in its place. Exit status 90: one is in the way that was
# not made here; it is named.
cd "$2" 2>/dev/null || mkdir -p "$2" && cd "$2" || exit 1

# ours FOLDER: whether there is none, or one that was made here: complete, or begun.
ours() {
  if [ ! -e "$1" ] && [ ! -L "$1" ]; then return 0; fi
  if [ -f "$1/edgelstm.json" ] || [ -f "$1/edgelstm-begun" ]; then return 0; fi
  echo "$PWD/$1"
  return 1
}

# restore: puts back what a swap that was cut short had taken away.
restore() {
  if [ ! -e venv ] && [ -f venv.old/edgelstm.json ]; then mv venv.old venv; fi
}

case $1 in
  prepare)
    restore
    for name in venv venv.new venv.old; do ours $name || exit 90; done
    rm -rf venv.new venv.old && mkdir venv.new && echo > venv.new/edgelstm-begun
    ;;
  finish)
    echo '{}' > venv.new/edgelstm.json && rm -f venv.new/edgelstm-begun
    ;;
  swap)
    ours venv || exit 90
    if [ -e venv ]; then mv venv venv.old || exit 1; fi
    mv venv.new venv || {
      restore
      exit 1
    }
    rm -rf venv.old
    ;;
  drop)
    restore
    if [ -e venv.new ] && ours venv.new > /dev/null; then rm -rf venv.new; fi
    ;;
esac
