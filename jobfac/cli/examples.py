"""One to three examples for each command, which its ``--help`` shows. A test parses every one of them."""

from typer.core import TyperCommand, TyperGroup

EXAMPLES: dict[str, tuple[str, ...]] = {
    "up": ("jobfac up", "jobfac up --slots 4 --port 8421"),
    "worker": ("jobfac worker --slots 8", "jobfac worker --pool etl --label zone=a --metrics 127.0.0.1:9420"),
    "scheduler": ("jobfac scheduler", "jobfac scheduler --metrics 127.0.0.1:9421"),
    "api": ("jobfac api", "jobfac api --host 0.0.0.0 --behind-proxy"),
    "apply": ("jobfac apply jobs.yaml", "jobfac apply --dry-run jobs/*.yaml", "jobfac apply --prune jobs.yaml"),
    "export": ("jobfac export > jobs.yaml", "jobfac export nightly report", "jobfac export crontab | crontab -"),
    "start": (
        "jobfac start report --wait",
        "jobfac start report --argument /etc --in 10m",
        "jobfac start load --payload - --key orders-2026-11-25 < orders.json",
    ),
    "stop": ("jobfac stop 17", "jobfac stop 17 --now", "jobfac stop --job report --all"),
    "hold": (
        'jobfac hold --pool etl --reason "the disk is full" --until 2h',
        'jobfac hold --job report --reason "wrong figures"',
        'jobfac hold --reason "the database server restarts"',
    ),
    "release": ("jobfac release 3",),
    "holds": ("jobfac holds", "jobfac holds --all"),
    "note": ('jobfac note 17 "the share was full" --ack',),
    "ack": ("jobfac ack 17 18", "jobfac ack --job report --since 12h --dry-run"),
    "retry": ("jobfac retry 17", "jobfac retry 17 --set limit=5", "jobfac retry --state failed --since 2h"),
    "approve": (
        "jobfac approve 17 release",
        "jobfac approve 17 release --set percent=20",
        "jobfac approve 17 release --reject --reason 'totals differ'",
    ),
    "logs": ("jobfac logs 17", "jobfac logs 17 -f", "jobfac logs --search 'out of memory' --since 1d"),
    "top": ("jobfac top", "jobfac top --interval 5", "jobfac top --once"),
    "doctor": ("jobfac doctor", "jobfac doctor --json"),
    "report": ("jobfac report", "jobfac report failures --since 2026-11-01 --csv", "jobfac report --html report.html"),
    "config": ("jobfac config", "jobfac config --json"),
    "purge": ("jobfac purge",),
    "try": ("jobfac try -- python3 load.py --day 2026-11-25", "jobfac try --timeout 10s -- ./report.sh"),
    "jobs list": ("jobfac jobs list", "jobfac jobs list --json"),
    "jobs show": ("jobfac jobs show report",),
    "jobs enable": ("jobfac jobs enable report",),
    "jobs disable": ("jobfac jobs disable report",),
    "jobs delete": ("jobfac jobs delete report", "jobfac jobs delete report --yes"),
    "jobs history": ("jobfac jobs history report",),
    "jobs diff": ("jobfac jobs diff report", "jobfac jobs diff report 3 5"),
    "jobs rollback": ("jobfac jobs rollback report 3",),
    "jobs url": (
        "jobfac jobs url report --name github",
        "jobfac jobs url report --list",
        "jobfac jobs url report --revoke --id 3",
    ),
    "runs list": (
        "jobfac runs list",
        "jobfac runs list --job report --state failed --since 1d",
        "jobfac runs list --text timeout",
    ),
    "runs show": ("jobfac runs show 17", "jobfac runs show 17 --json"),
    "workers list": ("jobfac workers list", "jobfac workers list --all"),
    "workers drain": ("jobfac workers drain 2", "jobfac workers drain batch-1"),
    "workers undrain": ("jobfac workers undrain batch-1",),
    "schedule list": ("jobfac schedule list", "jobfac schedule list report"),
    "schedule preview": (
        "jobfac schedule preview report",
        "jobfac schedule preview report --count 20 --from 2027-03-28 --explain",
    ),
    "schedule backfill": (
        "jobfac schedule backfill load --from 2026-11-01 --to 2026-11-24 --dry-run",
        "jobfac schedule backfill load --from 2026-11-01 --to 2026-11-24 --at-most 4",
    ),
    "schedule load": ("jobfac schedule load", "jobfac schedule load --days 14 --json"),
    "schedule pause": ("jobfac schedule pause report", "jobfac schedule pause report nightly"),
    "schedule resume": ("jobfac schedule resume report",),
    "sequence simulate": (
        "jobfac sequence simulate nightly",
        "jobfac sequence simulate nightly --outcome extract=failed",
    ),
    "sequence graph": ("jobfac sequence graph nightly", "jobfac sequence graph nightly --svg nightly.svg"),
    "import agent": (
        "jobfac import agent jobs.sql > jobs.yaml",
        "jobfac import agent --url env:SQL_AGENT_URL --compare",
    ),
    "import crontab": (
        "jobfac import crontab /etc/crontab --system > jobs.yaml",
        "jobfac import crontab --user backup > jobs.yaml",
        "jobfac import crontab /etc/cron.d > jobs.yaml",
    ),
    "keys create": (
        "jobfac keys create --role operator --name shop",
        "jobfac keys create --role viewer --category finance --expires 90d",
    ),
    "keys list": ("jobfac keys list",),
    "keys revoke": ("jobfac keys revoke 3",),
    "notify test": (
        "jobfac notify test --email ops@example.org",
        "jobfac notify test --webhook https://example.org/hook --secret env:HOOK",
    ),
    "notify list": ("jobfac notify list", "jobfac notify list --state dead"),
    "notify requeue": ("jobfac notify requeue 12 13", "jobfac notify requeue --all-dead"),
    "db upgrade": ("jobfac db upgrade",),
    "db check": ("jobfac db check",),
    "db script": ("jobfac db script > schema.sql", "jobfac db script --from 0003 > upgrade.sql"),
    "db backup": ("jobfac db backup /backup/jobfac.db",),
    "init": ("jobfac init", "jobfac init factory"),
    "schema": ("jobfac schema > jobfac.schema.json",),
    "help": ("jobfac help", "jobfac help schedules"),
}
"""By the command's words."""


def attach(command: TyperCommand | TyperGroup, words: str) -> None:
    """Give a command, or each command of a group, the examples of its words as the end of its help."""
    if isinstance(command, TyperGroup):
        for name, below in command.commands.items():
            below.epilog = _epilog(f"{words} {name}")
    else:
        command.epilog = _epilog(words)


def _epilog(words: str) -> str | None:
    lines = EXAMPLES.get(words, ())
    title = "Examples:" if len(lines) > 1 else "Example:"
    return "\n".join(("\b", title, *(f"  {line}" for line in lines))) if lines else None
