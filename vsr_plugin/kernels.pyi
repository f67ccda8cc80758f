from kernels import *
from kernels import __all__ as __all__
