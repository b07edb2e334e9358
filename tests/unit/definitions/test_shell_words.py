"""A command for a shell that runs without one: `apply` warns, unless the program is meant to read it."""

import subprocess

import pytest

from jobfac.definitions import Job, from_data


@pytest.mark.parametrize(
    ("command", "sign"),
    [
        ("make a && touch b", "has &&"),
        ("dump | gzip", "has |"),
        ("a || b", "has ||"),
        ("dump > x.gz", "has >"),
        ("dump >>/var/log/x 2>&1", "has >>/var/log/x"),
        ("x 2>&1", "has 2>&1"),
        ("cd /etc; ls", "has /etc;"),
        ("sleep 9 &", "has &"),
        ("FOO=1 BAR=2 prog", "begins with FOO="),
        ("echo start\nbackup.sh\n", "has several lines"),
        ("tar czf /b/$(date +%F).tgz /srv", "has /b/$(date,"),
        ("echo `hostname`", "has `hostname`,"),
    ],
)
def test_what_only_a_shell_understands_is_a_warning(command: str, sign: str) -> None:
    def warnings_of(**keys: object) -> list[str]:
        return [str(one) for one in from_data({"jobs": {"j": keys}}).warnings]

    (warning,) = warnings_of(command=command)
    assert sign in warning
    assert "set shell: true" in warning
    assert not warnings_of(command=command, shell=True)
    assert not warnings_of(command=command.split())


def test_a_backslash_that_disappears_is_a_warning() -> None:
    (warning,) = from_data({"jobs": {"j": {"command": r"sqlcmd -S SQL01\INST -E"}}}).warnings
    assert str(warning) == r"job 'j': command has SQL01\INST, which loses its \ as in a shell; put it in single quotes"
    for path in (r"D:\Übergabe", r"D:\_old"):
        assert len(from_data({"jobs": {"j": {"command": f"load {path}"}}}).warnings) == 1


@pytest.mark.parametrize(
    "command",
    [
        "grep '|' file",
        r"find . -exec rm {} \;",
        "find . -exec ls {} ;",
        'prog "a;" \'b;\' --x=1 a\\ \\& "> \\" &&" a\\;',
        "expr 1 < 2",
        "curl http://x/?a=1&b=2;c",
        "sqlcmd -Q 'select 1; select 2;'",
        "prog a>3 --a=>b -> =>",
        "prog\n  --full\n  -x\n",
        "prog \\\n  one \\\n  two\n",
        "prog 'one\ntwo'",
        r"""sqlcmd -S 'SQL01\INST' -i "C:\sql\x.sql" -Q 'SELECT $(DAY)' C:\\x a\ b""",
    ],
)
def test_what_a_program_is_meant_to_read_is_no_warning(command: str) -> None:
    assert not from_data({"jobs": {"j": {"command": command}}}).warnings


@pytest.mark.parametrize(
    "command",
    [
        "printf [%s] a \\\n  b",
        "printf [%s] \"a \\\n b\" 'c \\\n d'",
        'printf [%s] "it\'s \\\n" e\\\nf \\\\ "\\""',
        "printf [%s] \\' x\\\ny \\'",
    ],
)
def test_lines_that_a_backslash_joins_are_split_as_by_a_shell(command: str) -> None:
    """The program was given the end of the line as an argument."""
    (job,) = from_data({"jobs": {"j": {"command": command}}}).jobs.values()
    assert isinstance(job, Job)
    told = [subprocess.run(one, check=True, capture_output=True).stdout for one in (job.command, ["sh", "-c", command])]
    assert told[0] == told[1]
