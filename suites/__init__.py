"""The grids: one file a suite. A new file in this folder is found by itself."""

from marginbench.plugins.folder_imports import import_all_modules

import_all_modules(__name__)
