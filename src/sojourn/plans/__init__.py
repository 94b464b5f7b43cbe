"""Plans of sweeps: what a plan may end, and when it runs. Pure: no I/O but zones' rules, no clock.

schedule.py   the words of a schedule, and windows of local time through daylight saving
cron.py       cron expressions, by cronsim: of the extra `server`
times.py      when a schedule is due next
quiet.py      the quietest hour of a day, from hourly counts
plan.py       scope, plan, run
keeper.py     the contract of the ledger's part that keeps them
"""
