"""Load one region of one day: report how many rows that were, and show the parameters but for the secret one."""

import argparse

from jobfac import job

parser = argparse.ArgumentParser()
for name in ("--day", "--region", "--limit"):
    parser.add_argument(name, required=True)
given = parser.parse_args()
values = job.parameters()
assert (values["day"], values["region"], str(values["limit"])) == (given.day, given.region, given.limit)
rows = len(given.region) * 100
print(f"loaded {rows} rows of {given.region} for {given.day} with {values['token']}")
job.outputs(rows=rows)
job.exit(f"{rows} rows")
