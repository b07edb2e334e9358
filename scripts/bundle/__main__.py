"""`make bundle`: one file that installs jobfac on a machine without a network.

    python -m scripts.bundle [--output dist] [--extra mssql ...]

The file is a shell script with the wheels for this platform and this version of Python behind it. One of them is pip,
so that the other machine needs no package for virtual environments beside its Python:

    sh jobfac-0.1.0-linux_x86_64-cp311.sh /opt/jobfac
"""

import argparse
import io
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXTRAS = ("mssql", "mssql-python", "otel")
"""What a bundle holds beside the program: both drivers for SQL Server, and traces."""


def build(output: Path, extras: list[str]) -> Path:
    """Write the bundle into a folder, and return its path.

    Raises:
        subprocess.CalledProcessError: a wheel cannot be built or downloaded; its output says why.
    """
    with tempfile.TemporaryDirectory() as folder:
        wheels = Path(folder)
        run("uv", "build", "--wheel", "--quiet", "--out-dir", str(wheels), str(ROOT))
        own = next(wheels.glob("jobfac-*.whl"))
        wanted = f"{own}[{','.join(extras)}]" if extras else str(own)
        how = ["--quiet", "--only-binary=:all:", "--dest", str(wheels), "-c", str(ROOT / "constraints.txt")]
        run("pip", "download", *how, wanted, "pip")
        python, platform = sysconfig.get_config_var("py_version_nodot"), sysconfig.get_platform().replace("-", "_")
        path = output / f"jobfac-{version('jobfac')}-{platform}-cp{python}.sh"
        output.mkdir(parents=True, exist_ok=True)
        path.write_bytes(header(extras).encode() + archive(wheels))
    path.chmod(0o755)
    return path


def header(extras: list[str]) -> str:
    """The shell script in front of the wheels, for this Python's version and this platform."""
    values = {
        "@VERSION@": version("jobfac"),
        "@PYTHON@": f"{sys.version_info.major}.{sys.version_info.minor}",
        "@PLATFORM@": sysconfig.get_platform(),
        "@WANTED@": f"jobfac[{','.join(extras)}]" if extras else "jobfac",
    }
    text = (Path(__file__).parent / "install.sh").read_text(encoding="utf-8")
    for name, value in values.items():
        text = text.replace(name, value)
    return text


def archive(folder: Path) -> bytes:
    """A tar of the wheels; they are compressed already."""
    found = io.BytesIO()
    with tarfile.open(fileobj=found, mode="w") as tar:
        for path in sorted(folder.glob("*.whl")):
            tar.add(path, path.name)
    return found.getvalue()


def run(module: str, *arguments: str) -> None:
    """Run a module of this environment."""
    subprocess.run([sys.executable, "-m", module, *arguments], check=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "dist")
    parser.add_argument("--extra", action="append", choices=EXTRAS, help=f"default: {', '.join(EXTRAS)}")
    words = parser.parse_args()
    path = build(words.output, words.extra or list(EXTRAS))
    print(f"{path} ({path.stat().st_size / 1e6:.0f} MB) installs jobfac without a network: sh {path.name} /opt/jobfac")
    return 0


if __name__ == "__main__":
    sys.exit(main())
