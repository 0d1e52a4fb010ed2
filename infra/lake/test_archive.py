"""Reading objects: whole ones only, from a folder or a bucket."""

import io
import shutil
import tempfile
import unittest
from pathlib import Path

import duckdb
from botocore.response import StreamingBody
from botocore.stub import Stubber

import archive
import samples
import zstd_frames

# Everything of one kind in one object, and not the last one to be read.
OBJECT = "raw/topic=raw-events/dt=2026-11-20/hour=18/partition=0/00000000000000000003-00000000000000000005.ndjson.zst"
LOCAL = {
    "AWS_REGION": "eu-west-1",
    "AWS_ACCESS_KEY_ID": "local",
    "AWS_SECRET_ACCESS_KEY": "local",
    "AWS_ENDPOINT_URL_S3": "http://localhost:1",
}


class Whole(unittest.TestCase):
    def test_every_object_of_the_archiver_is_whole(self) -> None:
        for key in samples.keys():
            self.assertTrue(zstd_frames.is_whole((samples.FOLDER / key).read_bytes()), key)

    def test_an_object_that_ends_too_early_is_not_wherever_it_ends(self) -> None:
        data = (samples.FOLDER / OBJECT).read_bytes()
        for length in range(len(data)):
            self.assertFalse(zstd_frames.is_whole(data[:length]), length)

    def test_what_is_no_zstd_is_not(self) -> None:
        data = (samples.FOLDER / OBJECT).read_bytes()
        self.assertFalse(zstd_frames.is_whole(b"{}\n"))
        self.assertFalse(zstd_frames.is_whole(data + b"{}\n"))
        self.assertTrue(zstd_frames.is_whole(data + data))


class Damaged(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name) / "archive"
        shutil.copytree(samples.FOLDER, self.folder)

    def problem(self, sql: str) -> str:
        found = archive.Archive(archive.Folder(self.folder))
        with samples.lake.connect(found) as database:
            samples.lake.define(database, found, sql)
            with self.assertRaises(duckdb.Error):
                database.sql(sql).fetchall()
        return str(found.problem)

    def test_a_shortened_object_is_an_error_that_names_it(self) -> None:
        file = self.folder / OBJECT
        file.write_bytes(file.read_bytes()[:-20])
        self.assertIn(f"the object {OBJECT} is damaged", self.problem("SELECT count(*) FROM raw_events"))

    def test_it_does_no_harm_to_a_query_of_another_hour(self) -> None:
        file = self.folder / OBJECT
        file.write_bytes(file.read_bytes()[:-20])
        self.assertEqual(1, len(samples.rows("SELECT * FROM raw_events WHERE dt = '2026-11-20' AND hour = '20'", self.folder)))

    def test_a_changed_byte_is_an_error(self) -> None:
        file = self.folder / OBJECT
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 0x55
        file.write_bytes(data)
        with self.assertRaises(duckdb.Error):
            samples.rows("SELECT count(*) FROM raw_events", self.folder)

    def test_nothing_is_written(self) -> None:
        before = sorted(archive.Folder(self.folder).list(""))
        self.assertIn("only read", self.problem("COPY (SELECT 1) TO 'archive://raw/x.csv'"))
        self.assertEqual(before, sorted(archive.Folder(self.folder).list("")))


class Places(unittest.TestCase):
    def test_a_bucket_is_listed_page_by_page_below_its_prefix(self) -> None:
        bucket = archive.Bucket("ours/below", LOCAL)
        pages = [
            {"Contents": [{"Key": "below/raw/1", "Size": 7}], "IsTruncated": True, "NextContinuationToken": "more"},
            {"Contents": [{"Key": "below/raw/2", "Size": 8}], "IsTruncated": False},
        ]
        with Stubber(bucket.client) as stub:
            stub.add_response("list_objects_v2", pages[0], {"Bucket": "ours", "Prefix": "below/raw/"})
            stub.add_response("list_objects_v2", pages[1], {"Bucket": "ours", "Prefix": "below/raw/", "ContinuationToken": "more"})
            self.assertEqual({"raw/1": 7, "raw/2": 8}, bucket.list("raw/"))
            stub.add_response("get_object", {"Body": StreamingBody(io.BytesIO(b"lines"), 5)}, {"Bucket": "ours", "Key": "below/raw/1"})
            self.assertEqual(b"lines", bucket.read("raw/1"))

    def test_what_a_bucket_refuses_is_said(self) -> None:
        bucket = archive.Bucket("theirs", LOCAL)
        with Stubber(bucket.client) as stub:
            stub.add_client_error("list_objects_v2", "AccessDenied", "Access Denied")
            with self.assertRaisesRegex(archive.ArchiveError, "cannot list s3://theirs: .*AccessDenied"):
                bucket.list("raw/")

    def stack(self) -> Path:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        file = Path(folder.name) / "stack.env"
        values = LOCAL | {"ARCHIVE_BUCKET": "of-the-stack"}
        file.write_text("".join(f"{name}='{value}'\n" for name, value in values.items()), encoding="utf-8")
        return file

    def test_the_archive_is_that_of_the_running_stack_unless_the_environment_names_another(self) -> None:
        running = archive.find(None, self.stack(), {}).storage
        self.assertEqual(("s3://of-the-stack", LOCAL["AWS_ENDPOINT_URL_S3"]), (running.name, running.client.meta.endpoint_url))
        self.assertEqual("s3://ours", archive.find(None, self.stack(), {"ARCHIVE_BUCKET": "ours"}).name)
        with self.assertRaisesRegex(archive.ArchiveError, "make run"):
            archive.find(None, Path("no/stack.env"), {})

    def test_a_bucket_that_is_named_is_not_looked_for_in_the_running_stack(self) -> None:
        named = archive.find("s3://ours", self.stack(), {"AWS_REGION": "eu-west-1"}).storage
        self.assertEqual("https://s3.eu-west-1.amazonaws.com", named.client.meta.endpoint_url)

    def test_a_kept_folder_has_the_bucket_below_it(self) -> None:
        with tempfile.TemporaryDirectory() as kept:
            (Path(kept) / "s3/of-the-stack").mkdir(parents=True)
            self.assertEqual(f"{kept}/s3/of-the-stack", archive.find(kept, self.stack(), {}).name)
            self.assertEqual(kept, archive.find(kept, Path("no/stack.env"), {}).name)


if __name__ == "__main__":
    unittest.main()
