"""The simulated kernel: standard library only, files and functions named after Linux's own mm/.

Read it in the order a page travels: `mmzone` (the data), `mm_init` (boot), `page_alloc` (which zone
may serve a request), `pcp` (the per-CPU lists in front), `buddy` (split, merge, fallback), `kernel`
(the one mutable root, with the C API as methods).
"""
