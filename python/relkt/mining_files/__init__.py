"""Mining of files: pairs in, negatives out, and a folder of what is done so far, from which a killed run goes on."""

from relkt.mining_files.job import MiningOptions, MiningSummary, mine_files
from relkt.mining_files.tables import OutputFormat
from relkt.mining_files.work_folder import WorkFolderError

__all__ = ["MiningOptions", "MiningSummary", "OutputFormat", "WorkFolderError", "mine_files"]
