# free.sh: KiB that are free where the home folder is.
free_kib "$HOME"
