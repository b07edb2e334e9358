"""Generates a CSV of orders, loads it into a SQLite file, checks the sums, and reports its progress."""

import csv
import random
import sqlite3
import sys
import tempfile
from pathlib import Path

from jobfac import job

rows = int(sys.argv[1])
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "orders.csv"
    chance = random.Random(1)
    total = 0
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        for number in range(rows):
            cents = chance.randrange(100, 100_000)
            total += cents
            writer.writerow([number, f"customer-{cents % 997}", cents])
    job.progress(0.3, "generated")
    with sqlite3.connect(Path(folder) / "orders.sqlite") as db, path.open(newline="") as file:
        db.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT, cents INTEGER)")
        db.executemany("INSERT INTO orders VALUES (?, ?, ?)", csv.reader(file))
        job.progress(0.8, "loaded")
        count, cents = db.execute("SELECT count(*), sum(cents) FROM orders").fetchone()
    db.close()
print(f"{count} rows, {cents / 100:.2f} in all")
if (count, cents) != (rows, total):
    job.exit("the sums differ", result="failed")
job.outputs(rows=count, cents=cents)
job.exit(f"{count} rows")
