"""The grids: one file a suite. A new file in this folder is found by itself."""

from marginbench.folder_imports import import_all_modules

import_all_modules(__name__, __path__)
