"""`import agent` and `import crontab`: definitions from other schedulers, on standard output."""

from jobfac.cli.commands.importing.agent import agent
from jobfac.cli.commands.importing.crontab import crontab
from jobfac.cli.common import group

app = group("Convert foreign schedules to definitions, on standard output.")
app.command()(agent)
app.command()(crontab)
