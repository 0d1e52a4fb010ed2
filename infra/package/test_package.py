import ssl
import subprocess
import tempfile
import time
import unittest
import zipfile
from pathlib import Path

import symbols
import zips

# As readelf prints it, shortened.
LISTING = """
 0x0000000000000001 (NEEDED)             Shared library: [libgcc_s.so.1]
 0x0000000000000001 (NEEDED)             Shared library: [libc.so.6]

Version needs section '.gnu.version_r' contains 2 entries:
  000000: Version: 1  File: libc.so.6  Cnt: 3
  0x0010:   Name: GLIBC_2.34  Flags: none  Version: 4
  0x0020:   Name: GLIBC_2.2.5  Flags: none  Version: 3
"""


class Symbols(unittest.TestCase):
    def test_what_the_runtime_has_is_no_problem(self) -> None:
        self.assertEqual(symbols.of_listing(LISTING), [])

    def test_a_newer_version_is_one(self) -> None:
        listing = LISTING.replace("GLIBC_2.2.5", "GLIBC_2.38")
        self.assertEqual(symbols.of_listing(listing), ["needs glibc 2.38; provided.al2023 has 2.34"])

    def test_another_library_is_one(self) -> None:
        found = symbols.of_listing(LISTING.replace("libgcc_s.so.1", "libssl.so.3"))
        self.assertEqual(found, ["needs the library libssl.so.3, which provided.al2023 lacks"])

    def test_a_program_of_this_machine_can_be_read(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            source, program = Path(folder, "main.c"), Path(folder, "main")
            source.write_text("int main(void) { return 0; }\n", encoding="utf-8")
            subprocess.run(["cc", "-o", program, source], check=True)
            self.assertEqual(symbols.problems(program), [])
            with self.assertRaises(subprocess.CalledProcessError):
                symbols.problems(Path(folder, "absent"))


class Zips(unittest.TestCase):
    def test_the_same_program_gives_the_same_bytes(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            program, first, second = (Path(folder, name) for name in ("bootstrap", "1.zip", "2.zip"))
            program.write_bytes(b"program")
            zips.pack(program, first)
            program.touch()
            zips.pack(program, second)
            self.assertEqual(first.read_bytes(), second.read_bytes())

    def test_lambda_can_run_it_and_only_who_uses_postgres_has_its_authorities(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            program, to = Path(folder, "bootstrap"), Path(folder, "1.zip")
            for content, names in [(b"program", ["bootstrap"]), (b"reads DB_CA_FILE", ["bootstrap", "rds-ca.pem"])]:
                program.write_bytes(content)
                zips.pack(program, to)
                with zipfile.ZipFile(to) as package:
                    self.assertEqual(package.namelist(), names)
                    self.assertEqual(package.getinfo("bootstrap").external_attr >> 16, 0o100755)

    def test_the_authorities_are_valid_for_a_year_more(self) -> None:
        context = ssl.create_default_context(cafile=str(zips.CERTIFICATES))
        authorities = context.get_ca_certs()
        self.assertGreater(len(authorities), 80)
        for authority in authorities:
            end = ssl.cert_time_to_seconds(authority["notAfter"])
            self.assertGreater(end, time.time() + 365 * 24 * 3600, authority["subject"])


if __name__ == "__main__":
    unittest.main()
