"""Selective sweeps, by hand and by plan.

selective.py   whom a scope means, and ending them, in bounded steps
leader.py      the seat of Sojourn's own whose holder carries plans out
planner.py     what is due, carried out once; what was cut off, taken up
busy.py        how much happens in each hour
service.py     what operators do
"""
