"""docs/logs.md has every warning and error of the source, and no other; the saved queries name messages that exist."""

import re
import unittest

import messages
from messages import Message

# Where people read of messages besides the table.
QUOTING = [
    messages.ROOT / "docs/monitoring.md",
    messages.ROOT / "docs/troubleshooting.md",
    *sorted((messages.ROOT / "infra/observe/grafana/dashboards").glob("*.json")),
]


class Reading(unittest.TestCase):
    def test_messages_of_every_form_are_read(self) -> None:
        source = """
            tracing::warn!(of, %error, "one (and more): \\"so\\"");
            warn!("two");
            tracing::error!(
                error = format!("{error:#}"),
                "three goes on \\
                 here",
            );
            // tracing::warn!("a comment");
            tracing::debug!("a detail");
            tracing::info!(%a, "four");
            #[cfg(test)]
mod tests {
            tracing::warn!("a test");
        """
        expected = [
            Message('one (and more): "so"', "warn"),
            Message("two", "warn"),
            Message("three goes on here", "error"),
            Message("four", "info"),
        ]
        self.assertEqual(list(messages.calls(source)), expected)

    def test_a_message_that_is_no_literal_is_refused(self) -> None:
        for source in ("tracing::warn!(text);", 'tracing::warn!("a {}", number);'):
            with self.assertRaises(messages.NoMessage):
                list(messages.calls(source))

    def test_quotations_are_read(self) -> None:
        text = (
            "`a call failed, and\nwill: be repeated` and `make invoke FUNCTION=a EVENT=b` and `some_metric` of `three words only`"
        )
        self.assertEqual(messages.quoted(text), {"a call failed, and will: be repeated"})

    def test_rows_are_read(self) -> None:
        table = "| message | level | what |\n|---|---|---|\n| `one` | warn | a `b` |\n| `two: three` | error | c |\n"
        self.assertEqual(messages.in_table(table), [Message("one", "warn"), Message("two: three", "error")])


class Table(unittest.TestCase):
    def test_the_table_has_what_the_source_has(self) -> None:
        rows = messages.in_table(messages.TABLE.read_text(encoding="utf-8"))
        source = {message for message in messages.in_source() if message.level != "info"}
        self.assertEqual(sorted(source - set(rows)), [], "the table lacks what the source logs")
        self.assertEqual(sorted(set(rows) - source), [], "the table has what the source does not log")
        self.assertEqual(len(rows), len(set(rows)), "a message has two rows")

    def test_docs_and_dashboards_quote_messages_that_exist(self) -> None:
        known = {message.text for message in messages.in_source()}
        for file in QUOTING:
            for words in messages.quoted(file.read_text(encoding="utf-8")):
                self.assertIn(words, known, file.name)


class SavedQueries(unittest.TestCase):
    def test_they_ask_for_messages_that_exist(self) -> None:
        known = {message.text for message in messages.in_source()}
        for name, asked in messages.in_saved_queries().items():
            self.assertEqual(set(asked) - known, set(), name)

    def test_the_docs_list_all_of_them(self) -> None:
        listed = set(
            re.findall(r"\(\.\./infra/observe/logs-insights/([\w-]+\.txt)\)", messages.TABLE.read_text(encoding="utf-8"))
        )
        self.assertEqual(listed, set(messages.in_saved_queries()))


if __name__ == "__main__":
    unittest.main()
