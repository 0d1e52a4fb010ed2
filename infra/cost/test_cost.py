import json
import subprocess
import sys
import tempfile
import tomllib
import unittest
from pathlib import Path

import cost

PROGRAM = Path(__file__).with_name("cost.py")


class Arithmetic(unittest.TestCase):
    """The expected figures were worked out by hand from prices.toml."""

    def setUp(self) -> None:
        self.prices = cost.load("other")

    def dollars(self, **counted: object) -> float:
        return cost.total(cost.per_million(self.prices, counted))

    def test_batches_of_500_and_100_ms_at_256_mb(self) -> None:
        # 2,000 x 0.20 / 1,000,000 = 0.0004; 2,000 x 0.1 s x 0.25 GB = 50 GB-s x 0.0000133334 = 0.00066667.
        counts = {"lambda_requests": 2000, "lambda_gb_seconds": 50}
        self.assertAlmostEqual(self.dollars(events=1_000_000, counts=counts), 0.00106667, places=9)

    def test_a_write_and_a_request_for_each_event(self) -> None:
        # 0.625 for the writes; 1.00 and 0.20 for requests.
        counts = {"dynamodb_write_units": 1_000_000, "http_api_requests": 1_000_000, "lambda_requests": 1_000_000}
        self.assertAlmostEqual(self.dollars(events=1_000_000, counts=counts), 1.825)

    def test_counts_of_fewer_events_are_scaled(self) -> None:
        # 30 puts of 20,000 events are 1,500 of a million: 1.5 x 0.005.
        self.assertAlmostEqual(self.dollars(events=20_000, counts={"s3_put_requests": 30}), 0.0075)

    def test_bytes_are_by_the_gigabyte(self) -> None:
        # 0.6 GB of logs at 0.50, 2 GB between zones at 0.02.
        counts = {"log_bytes": 600_000_000, "zone_bytes": 2_000_000_000}
        self.assertAlmostEqual(self.dollars(events=1_000_000, counts=counts), 0.34)

    def test_kafka_has_a_price_by_kind(self) -> None:
        # 3 GB in, 6 GB out: express 0.03; serverless 0.30 and 0.30; another nothing.
        counted = {"events": 1_000_000, "counts": {"kafka_bytes_in": 3e9, "kafka_bytes_out": 6e9}}
        for kind, dollars in (("msk_express", 0.03), ("msk_serverless", 0.60), ("other", 0.0)):
            self.assertAlmostEqual(cost.total(cost.per_million(cost.load(kind), counted)), dollars)

    def test_a_month(self) -> None:
        # A gateway: 730 x 0.045 = 32.85. At 1,000 events a second 2,628 million events pass: 2,628 x 0.625 = 1,642.50.
        floor = cost.total(cost.a_month(self.prices, {"month": {"nat_gateway_hours": 730}}))
        self.assertAlmostEqual(floor, 32.85)
        self.assertAlmostEqual(cost.monthly_bill(0.625, floor, 1000), 1675.35)

    def test_wrong_counts_are_refused(self) -> None:
        for counted, part in (
            ({"events": 0, "counts": {"log_bytes": 1}}, "from 1 on"),
            ({"events": True, "counts": {"log_bytes": 1}}, "from 1 on"),
            ({"events": 10}, "must have what"),
            ({"events": 10, "counts": {"lambda_request": 1}}, "no price has the name lambda_request;"),
            ({"events": 10, "counts": {"log_bytes": -1}}, "log_bytes: a count is"),
            ({"events": 10, "counts": {"log_bytes": "1"}}, "log_bytes: a count is"),
        ):
            with self.assertRaises(cost.BadCounts) as raised:
                cost.per_million(self.prices, counted)
            self.assertIn(part, str(raised.exception))

    def test_every_price_says_where_it_was_seen(self) -> None:
        table = tomllib.loads(cost.PRICES.read_text(encoding="utf-8"))
        for group in (table["event"], table["month"], *table["kafka"].values()):
            for name, row in group.items():
                self.assertIn(row["seen"], ("p", "s", "u"), name)
                self.assertTrue(row["page"] and row["per"] > 0 and row["usd"] >= 0, name)
        self.assertEqual(set(table["kafka"]), set(cost.KAFKA_KINDS))


class Program(unittest.TestCase):
    def run_program(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, PROGRAM, *arguments], capture_output=True, text=True, check=False)

    def test_without_counts_it_says_what_to_do(self) -> None:
        done = self.run_program()
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("make cost COUNTS=FILE", done.stderr)

    def test_a_report(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "counts.json")
            counted = {"events": 1_000_000, "counts": {"dynamodb_write_units": 1_000_000}, "month": {"nat_gateway_hours": 730}}
            file.write_text(json.dumps(counted), encoding="utf-8")
            done = self.run_program(str(file), "--events-per-second", "1000")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn("a month at 1000 events/s: 1,675.35", done.stdout)
            file.write_text('{"events": 1}', encoding="utf-8")
            self.assertEqual(self.run_program(str(file)).returncode, 1)


if __name__ == "__main__":
    unittest.main()
