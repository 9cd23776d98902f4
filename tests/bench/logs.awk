# What `logs::report` is compared with: one pass over both logs of logs.py, most of its questions.
#   mawk -f tests/bench/logs.awk DIRECTORY/access.log DIRECTORY/app.log
FILENAME ~ /access/ { n++; s[substr($9,1,1)]++; split($7,p,"?"); e[$6 p[1]]++; if ($9>=400) f[$6 p[1]]++; c[$1]++; t+=$NF; next }
{ if (match($0, / - (ERROR|INFO|DEBUG|WARNING|CRITICAL) - /)) { l=substr($0,RSTART+3,RLENGTH-6); lv[l]++; if (l=="ERROR") { m=substr($0,RSTART+RLENGTH); gsub(/[0-9]+/,"N",m); et[m]++ } } }
END { print n, t/n; for (k in s) print k, s[k]; for (k in lv) print k, lv[k] }
