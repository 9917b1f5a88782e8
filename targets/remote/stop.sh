# stop.sh FOLDER NAME: ends what run.sh started under that name.
if [ -f "$1/$2.worker" ]; then stop_worker "$1/$2.worker"; fi
