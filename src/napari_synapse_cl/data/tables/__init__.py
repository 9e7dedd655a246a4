"""Tables of positions as laboratories have them: read, and understood by the names of columns.

No library of one format is imported before a file of that format is read: the window imports this.
"""

from napari_synapse_cl.data.tables.advice import check_reading
from napari_synapse_cl.data.tables.conventions import Mapping, Reading, in_voxels
from napari_synapse_cl.data.tables.files import SUFFIXES, read_table
from napari_synapse_cl.data.tables.interpreting import PositionTable, interpret, open_table
