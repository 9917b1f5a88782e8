# memory.sh: MiB that are free, and all there are.
sed -n 's/^MemAvailable: *//p' /proc/meminfo | { read -r kib unit && echo $((kib / 1024)); }
sed -n 's/^MemTotal: *//p' /proc/meminfo | { read -r kib unit && echo $((kib / 1024)); }
