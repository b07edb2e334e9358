"""Converted crontabs are due when cron would start them."""

import json
import pwd
import subprocess
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from jobfac.definitions import from_data
from jobfac.definitions.models import Job
from jobfac.definitions.parameters.placeholders import SAMPLE, fill
from jobfac.definitions.schedule import Schedule
from jobfac.importers.crontab import Table, from_table, home_of
from jobfac.recurrence import due_times
from jobfac.recurrence.cron import parse
from tests.unit.recurrence.previews import written
from tests.unit.recurrence.reference import due_in

# Tables of Debian packages in /etc/cron.d and /etc/crontab: their times and users, with shortened commands.
DEBIAN = {
    "e2scrub_all": """
        30 3 * * 0 root test -e /run/systemd/system || SERVICE_MODE=1 /usr/libexec/e2fsprogs/e2scrub_all_cron
        10 3 * * * root test -e /run/systemd/system || SERVICE_MODE=1 /sbin/e2scrub_all -A -r
        """,
    "sysstat": """
        PATH=/usr/lib/sysstat:/usr/sbin:/usr/bin:/sbin:/bin
        # every ten minutes, at odd ones
        5-55/10 * * * * root command -v debian-sa1 > /dev/null && debian-sa1 1 1
        59 23 * * * root command -v debian-sa1 > /dev/null && debian-sa1 60 2
        """,
    "php": """
        09,39 *\t* * *     root   [ -x /usr/lib/php/sessionclean ] && /usr/lib/php/sessionclean
        """,
    "anacron": """
        SHELL=/bin/sh
        PATH=/usr/local/sbin:/usr/local/bin:/sbin:/bin:/usr/sbin:/usr/bin

        30 7-23 * * *\troot\t[ -x /etc/init.d/anacron ] && /usr/sbin/invoke-rc.d anacron start >/dev/null
        """,
    "popularity-contest": """
        SHELL=/bin/sh
        52 19 * * *   root    test -x /etc/cron.daily/popularity-contest && /etc/cron.daily/popularity-contest --crond
        """,
    "mdadm": """
        57 0 * * 0 root if [ -x /usr/share/mdadm/checkarray ] && [ $(date +\\%d) -le 7 ]; then checkarray --cron; fi
        """,
    "certbot": """
        0 */12 * * * root test -x /usr/bin/certbot -a \\! -d /run/systemd/system && certbot -q renew
        """,
    "zfsutils": """
        24 0 1-7 * * root if [ $(date +\\%w) -eq 0 ]; then /usr/lib/zfs-linux/trim; fi
        24 0 8-14 * 0 root /usr/lib/zfs-linux/scrub
        """,
    "crontab": """
        17 *    * * *   root    cd / && run-parts --report /etc/cron.hourly
        25 6    * * *   root    test -x /usr/sbin/anacron || { cd / && run-parts --report /etc/cron.daily; }
        47 6    * * 7   root    test -x /usr/sbin/anacron || { cd / && run-parts --report /etc/cron.weekly; }
        52 6    1 * *   root    test -x /usr/sbin/anacron || { cd / && run-parts --report /etc/cron.monthly; }
        """,
    "munin": """
        MAILTO=root
        */5 * * * *     munin if [ -x /usr/bin/munin-cron ]; then /usr/bin/munin-cron; fi
        14 10 * jan-jun mon-fri,sun munin /usr/share/munin/munin-limits --force
        """,
}
CRON_LINES = [
    (name, line) for name, table in DEBIAN.items() for line in table.splitlines() if line.strip()[:1] in "0123456789*"
]
BERLIN = "Europe/Berlin"
RAN = json.loads(Path(__file__).with_name("debian_cron.json").read_text())
"""The runs of Debian's own cron (3.0pl1-197) in Berlin, with a clock that its sleeps moved on.

They cover 22:00 to 04:00 UTC at the clock changes of 2027, and the days of June and July. Skipped minutes are one time
here.
"""


def read(
    text: str, system: bool = False, filename: str = "table", timezone: str = "UTC"
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    table = Table(tab=text, user=False if system else None)
    return from_table(table, system=system, name=filename, timezone=timezone)


@pytest.mark.parametrize("name", DEBIAN)
def test_debian_tables_start_when_cron_would_start_them(name: str) -> None:
    jobs, _ = read(DEBIAN[name], system=True, filename=f"/etc/cron.d/{name}", timezone=BERLIN)
    lines = [line.split(maxsplit=6) for table, line in CRON_LINES if table == name and line.strip()]
    assert len(jobs) == len(lines)
    for (job_id, body), (*fields, user, command) in zip(jobs.items(), lines, strict=True):
        job = Job.model_validate(body)
        assert job_id.startswith(name)
        assert (job.user, job.command) == (user, (command.replace("\\%", "%").strip(),))
        (schedule,) = job.schedules
        by_cron = Schedule(cron=" ".join(fields), timezone=BERLIN)
        for month, day in ((3, 28), (10, 31), (6, 6)):
            start = datetime(2027, month, day, tzinfo=UTC) - timedelta(days=4)
            end = start + timedelta(days=8)
            assert list(due_times(schedule, start, end)) == due_in(by_cron, start, end)


def times_of(line: str, *spans: tuple[str, str]) -> list[datetime]:
    (job,) = read(f"{line} job", timezone=BERLIN)[0].values()
    (schedule,) = Job.model_validate(job).schedules
    edges = [[datetime.fromisoformat(f"2027-{edge}+00:00") for edge in span] for span in spans]
    return [due for after, until in edges for due in due_times(schedule, after, until)]


@pytest.mark.parametrize("line", RAN["clocks"])
def test_the_clocks_change_as_in_debians_cron(line: str) -> None:
    found = times_of(line, ("03-27T21:59", "03-28T03:59"), ("10-30T21:59", "10-31T03:59"))
    assert written(found, BERLIN) == RAN["clocks"][line]


@pytest.mark.parametrize("line", RAN["days"])
def test_the_days_are_those_of_debians_cron(line: str) -> None:
    assert " ".join(f"{due:%m-%d}" for due in times_of(line, ("05-31T22:00", "07-31T22:00"))) == RAN["days"][line]


def test_variables_apply_to_the_lines_below_them() -> None:
    jobs, warnings = read(
        """
0 1 * * * first
FOO = bar baz
"QUOTED"='a "b" '
SHELL=/bin/bash
HOME=/srv/data
CRON_TZ=Asia/Kathmandu
RANDOM_DELAY=20
0 2 * * * second # no comment for cron
"""
    )
    check = "Debian's cron ignores it; check when the lines below ran: here they are due as cronie has it"
    assert warnings == [
        f"table, line {line}: cronie obeys {name}, {check}" for line, name in ((7, "CRON_TZ"), (8, "RANDOM_DELAY"))
    ]
    assert jobs["table-1"] == {
        "command": "first",
        "shell": True,
        "restartable": False,
        "schedules": [{"cron": "0 1 * * *", "timezone": "UTC"}],
    }
    assert jobs["table-2"] == {
        "command": ["/bin/bash", "-c", "second # no comment for cron"],
        "directory": "/srv/data",
        "restartable": False,
        "environment": {"FOO": "bar baz", "QUOTED": 'a "b" ', "HOME": "/srv/data", "SHELL": "/bin/bash"},
        "schedules": [{"cron": "0 2 * * *", "timezone": "Asia/Kathmandu", "jitter": "20m"}],
    }
    assert all(Job.model_validate(job) for job in jobs.values())


def test_mail_goes_to_addresses_on_failure() -> None:
    jobs, warnings = read('MAILTO=ops@example.org, root ops@example.org\n@daily job\nMAILTO=""\n@hourly other')
    assert jobs["table-1"]["notify"][0]["to"] == {"email": ["ops@example.org"]}
    assert "notify" not in jobs["table-2"]
    assert warnings == [
        "table, line 1: MAILTO=root is a mailbox on that machine; name an address under 'notify'",
        "table, line 1: cron mails all output to MAILTO; the jobs below send mail when they fail",
    ]
    assert all(Job.model_validate(job) for job in jobs.values())


def test_text_after_a_percent_sign_is_input() -> None:
    jobs, warnings = read(r"0 9 * * * mail -s 'at 100\%' me%Hello,%END%it is 100\%.")
    assert jobs["table"]["command"] == "{ mail -s 'at 100%' me\n} <<'END_'\nHello,\nEND\nit is 100%.\nEND_\n"
    assert warnings == ["table, line 1: the text after % became a here-document of the command"]


def test_input_reaches_the_program(tmp_path: Path) -> None:
    jobs, _ = read(f"* * * * * cat > {tmp_path}/got && cat%one%$HOME `two`%")
    subprocess.run(jobs["table"]["command"], shell=True, check=True, stdin=subprocess.DEVNULL)
    assert (tmp_path / "got").read_text() == "one\n$HOME `two`\n\n"


@pytest.mark.parametrize(
    ("line", "warning"),
    [
        (
            "@reboot sync",
            "@reboot has no counterpart, since no job belongs to a machine's start; the line was left out",
        ),
        ("0 25 * * * x", "the schedule "),
        ("0 1 * * *", "'0 1 * * *' is too short: it needs times and command; the line was left out"),
        ("@fortnightly x", "the schedule "),
        ("0 0 * * 1#2 x", "the schedule has 1#2, which cron refuses or reads in another way; the line was left out"),
        ("5/10 0 L * 5L x", "the schedule has 5/10, L, 5L, which cron refuses or reads in another way; "),
        ("RANDOM_DELAY=soon", "RANDOM_DELAY=soon is not a number of minutes; the line was left out"),
        ("MAILFROM=cron@example.org", "MAILFROM has no counterpart; how mail is sent is a setting"),
    ],
)
def test_an_unsupported_line_is_a_warning_with_its_number(line: str, warning: str) -> None:
    jobs, warnings = read(f"# a table\n\n{line}\n")
    assert jobs == {}
    assert len(warnings) == 1
    assert warnings[0].startswith(f"table, line 3: {warning}")


def test_a_command_relative_to_home_is_a_warning() -> None:
    jobs, warnings = read("0 1 * * * bin/backup --all\nHOME=/srv\n0 2 * * * bin/other\n", filename="my jobs.tab")
    assert list(jobs) == ["my-jobs.tab-1", "my-jobs.tab-2"]
    assert warnings == [
        "my jobs.tab, line 1: cron looks for this command in the user's home; give the job a 'directory'"
    ]


def test_a_command_starts_in_the_home_of_its_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobfac.importers.crontab.home_of", {"batch": str(tmp_path)}.get)
    jobs, warnings = read("0 1 * * * batch find . -delete\n0 2 * * * gone x\nHOME=/srv\n0 3 * * * gone y", system=True)
    assert [job.get("directory") for job in jobs.values()] == [str(tmp_path), None, "/srv"]
    assert warnings == [
        "table: cron starts the commands of 'gone' in its home, which this machine does not have; give the jobs a "
        "'directory', or they start in the worker's"
    ]


def test_the_home_of_a_user_is_that_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    assert home_of("root") == pwd.getpwnam("root").pw_dir
    assert home_of("no such user") is None
    monkeypatch.setattr("os.path.isdir", lambda path: False)
    assert home_of("root") is None


@pytest.mark.parametrize(
    ("command", "leaves"),
    [
        ("/opt/app/start.sh &", True),
        ("(sleep 5; ./poll) & exit", True),
        ("nohup ./serve >/dev/null 2>&1", True),
        ('su - app -c "./start.sh > log 2>&1 &"', True),
        ("curl http://x/?a=1&b=2", True),
        ("/usr/sbin/service nginx restart", True),
        ("/etc/init.d/nginx restart", True),
        ("a && b >log 2>&1 || c &>>log", False),
        ("curl 'http://x/?a=1&b=2' | cat", False),
        (r"echo a \& b", False),
        ("systemctl restart app.service ; echo", False),
    ],
)
def test_what_a_command_leaves_running_lives_on(command: str, leaves: bool) -> None:
    jobs, warnings = read(f"0 1 * * * {command}")
    assert jobs["table"].get("detach", False) == leaves
    assert any("leave something running" in one for one in warnings) == leaves


@pytest.mark.parametrize(
    ("command", "empties"),
    [
        ("echo failed > /dev/stderr", True),
        ("echo failed 1>/dev/stdout", True),
        ("export | tee /dev/stderr | wc -l", True),
        ("export | tee -a /dev/stderr", False),
        ("export | tee  -a /dev/stderr", False),
        ("echo failed >> /dev/stderr; echo >&2", False),
    ],
)
def test_what_would_empty_the_output_is_a_warning(command: str, empties: bool) -> None:
    _, warnings = read(f"0 6 * * * {command}")
    assert any("by name empties the output" in one for one in warnings) == empties


def test_input_of_something_that_is_no_shell_is_a_warning() -> None:
    jobs, warnings = read("SHELL=/usr/bin/python3\n0 1 * * * print(input())%in\n0 2 * * * print(1)")
    assert [job["command"] for job in jobs.values()] == [["/usr/bin/python3", "-c", "print(1)"]]
    assert "its % begins an input, which SHELL=/usr/bin/python3 needs in a script" in warnings[0]


def test_what_looks_like_a_placeholder_stays_as_it_is() -> None:
    jobs, _ = read("A=${run.id}\nHOME=/srv/${run.id}\n0 1 * * * echo ${due.date} ${HOME}")
    (job,) = from_data({"jobs": jobs}).jobs.values()
    assert isinstance(job, Job)
    given = [job.command[0], job.directory or "", str(job.environment["A"])]
    assert [fill(text, SAMPLE) for text in given] == ["echo ${due.date} ${HOME}", "/srv/${run.id}", "${run.id}"]


def test_two_backslashes_do_not_escape_a_percent_sign() -> None:
    assert read(r"0 1 * * * cat \\%one")[0]["table"]["command"] == "{ cat \\\\\n} <<'END'\none\nEND\n"
    assert read(r"0 1 * * * cat \\\%one")[0]["table"]["command"] == r"cat \\%one"


def test_a_range_from_a_name_to_a_number_is_a_range() -> None:
    jobs, warnings = read("# 0 0 * * fri-1 root old\n0 0 * * mon-5 root x\n0 0 * * sun-7/2 root y", system=True)
    assert [job["schedules"][0]["cron"] for job in jobs.values()] == ["0 0 * * mon-5", "0 0 * * sun-7/2"]
    assert warnings == []


def test_a_line_that_is_not_to_be_logged_is_a_line() -> None:
    (job,) = read("-0 1 * * * root sync", system=True)[0].values()
    assert (job["user"], job["command"], job["schedules"][0]["cron"]) == ("root", "sync", "0 1 * * *")


def test_a_wrong_zone_costs_its_lines() -> None:
    jobs, said = read("CRON_TZ=Mars\n0 1 * * * x\nCRON_TZ=UTC\n0 2 * * * good")
    assert [job["command"] for job in jobs.values()] == ["good"]
    assert said[1].startswith("table, line 2: CRON_TZ names the unknown time zone 'Mars'")


@pytest.mark.parametrize(
    ("table", "warning"),
    [
        ("@monthly 45 cron.monthly run-parts x", "table, line 1: its user is the number 45, as in an anacrontab"),
        ("0 1 * * * root echo caf\udce9", "table, line 1: it has bytes that are not UTF-8"),
        ("SHELL=\n0 1 * * * root x\nSHELL=/bin/sh", "table, line 2: it makes no job, because "),
        ("MAILTO=a@b@c", "table, line 1: MAILTO=a@b@c is no address; name an address under 'notify'"),
        ("LOGNAME=x", "table, line 1: cron sets LOGNAME to the user's name"),
    ],
)
def test_a_wrong_line_costs_no_other_line(table: str, warning: str) -> None:
    jobs, [said] = read(f"{table}\n0 2 * * * root good", system=True)
    assert said.startswith(warning)
    assert [job["command"] for job in jobs.values()] == ["good"]
    from_data({"jobs": jobs})


def test_a_system_line_without_a_user_is_a_warning() -> None:
    assert read("@daily command", system=True)[1] == [
        "table, line 1: '@daily command' is too short: it needs times, user and command; the line was left out"
    ]


def test_an_empty_table_has_no_jobs() -> None:
    assert read("\n# nothing\n") == ({}, [])


@pytest.mark.parametrize(("short", "long"), [("8", "8-8/5"), ("8", "08-8/5"), ("1-3/2", "01-3/2")])
def test_a_range_of_one_value_with_a_step_is_this_value(short: str, long: str) -> None:
    assert parse(f"0 {long} * * *").seconds == parse(f"0 {short} * * *").seconds
    days = [date(2027, month, 1) for month in range(1, 13)]
    assert [parse("0 0 * jun-6/3 *").matches(day) for day in days] == [day.month == 6 for day in days]
