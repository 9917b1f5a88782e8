# run.sh FOLDER NAME COMMAND...: runs a command there with what is left of stdin; FOLDER/NAME.worker names the process.
folder=$1 worker=$1/$2.worker
shift 2
cd "$folder" 2>/dev/null && [ -f guard ] || exit 96
identity $$ > "$worker" || exit 95
[ -f guard ] || exit 96
TMPDIR=$folder
export TMPDIR
"$@"
status=$?
rm -f "$worker"
exit $status
