"One module a family of cases; each has `CHECKS`: name of a case -> function `Case -> iterable of Check`"
