"""What a trained model is exported to: a SavedModel for TF Serving.

`kbert.export` is this folder and, called, the function `saved_model.export`: Python gives a
package's name to its folder as soon as anything in it is imported.
"""

import sys
from types import ModuleType


class _Export(ModuleType):
    def __call__(self, *arguments, **settings):
        """See `kbert.export.saved_model.export`."""
        from kbert.export.saved_model import export

        return export(*arguments, **settings)


sys.modules[__name__].__class__ = _Export
