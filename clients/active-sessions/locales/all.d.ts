// Put together from clients/active-sessions/src by build.py there: change that.
export {};
