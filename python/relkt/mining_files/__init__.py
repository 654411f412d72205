"""Mining of files: reads pairs, writes negatives, and keeps finished work so that a killed run can be resumed."""

from relkt.mining_files.checks import NoNegativesError, check_apart
from relkt.mining_files.job import mine_files
from relkt.mining_files.options import MiningOptions
from relkt.mining_files.summary import MiningSummary
from relkt.mining_files.tables import OutputFormat
from relkt.mining_files.work_folder import WorkFolderError

__all__ = [
    "MiningOptions",
    "MiningSummary",
    "NoNegativesError",
    "OutputFormat",
    "WorkFolderError",
    "check_apart",
    "mine_files",
]
