"""SQL Server Agent's jobs as definitions: ``read_scripts`` or ``read_msdb``, then ``Converter`` and ``write``."""

from jobfac.importers.agent.definitions import Converter, Defined
from jobfac.importers.agent.model import Agent, Remark
from jobfac.importers.agent.script import read_scripts
from jobfac.importers.agent.steps import Options
from jobfac.importers.agent.writing import write

__all__ = ["Agent", "Converter", "Defined", "Options", "Remark", "read_scripts", "write"]
