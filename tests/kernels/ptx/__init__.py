"""An interpreter of PTX, NVIDIA's assembly language: what a compiled kernel computes, and whether its threads race.

All threads of a block step together, as arrays of numpy. Arithmetic, layouts, addresses and order are those of the PTX
ISA; time is not modelled. A kernel must branch alike in all threads of a block, as those of Triton do.
"""
