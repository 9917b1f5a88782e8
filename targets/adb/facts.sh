# facts.sh: what an Android device tells of itself, as lines of name=value; what it does not tell is empty.
cpu=/sys/devices/system/cpu
echo "model=$(getprop ro.product.model 2>/dev/null)"
echo "maker=$(getprop ro.product.manufacturer 2>/dev/null)"
echo "soc=$(getprop ro.soc.model 2>/dev/null)"
echo "platform=$(getprop ro.board.platform 2>/dev/null)"
echo "release=$(getprop ro.build.version.release 2>/dev/null)"
echo "architecture=$(uname -m 2>/dev/null)"
echo "num_cores=$(ls -d $cpu/cpu[0-9]* 2>/dev/null | wc -l)"
echo "governor=$(cat $cpu/cpu*/cpufreq/scaling_governor 2>/dev/null | sort -u | tr '\n' ' ')"
echo "clock_khz=$(cat $cpu/cpu*/cpufreq/scaling_cur_freq 2>/dev/null | sort -n | tail -n 1)"
echo "load_average=$(cut -d ' ' -f 1 /proc/loadavg 2>/dev/null)"
echo "thermal_status=$(dumpsys thermalservice 2>/dev/null | sed -n 's/.*Thermal Status: *//p' | head -n 1)"
for zone in /sys/class/thermal/thermal_zone*; do
  case $(cat "$zone/type" 2>/dev/null) in
    *cpu* | *CPU* | *soc*) echo "temperature=$(cat "$zone/temp" 2>/dev/null)" ;;
  esac
done
