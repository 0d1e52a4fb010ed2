//! What the checks of the docs read: files, the code in Markdown, and the source without its comments and tests.

use std::collections::BTreeMap;
use std::path::Path;

/// Files by their path from the top of the repository.
pub type Files = BTreeMap<String, String>;

/// Folders that hold what tools made.
const MADE_BY_TOOLS: [&str; 3] = ["target", ".git", ".venv"];

/// Reads every file of the repository whose name ends in `ending`.
///
/// # Errors
/// If a file or folder cannot be read.
pub fn files(root: &Path, ending: &str) -> std::io::Result<Files> {
    let mut found = Files::new();
    collect(root, root, ending, &mut found)?;
    Ok(found)
}

fn collect(root: &Path, folder: &Path, ending: &str, found: &mut Files) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() {
            if !MADE_BY_TOOLS.contains(&name.as_str()) {
                collect(root, &path, ending, found)?;
            }
        } else if name.ends_with(ending) {
            let from_root = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
            found.insert(from_root, std::fs::read_to_string(&path)?);
        }
    }
    Ok(())
}

/// Source without its last part, the unit tests, and without comments on lines of their own.
pub fn program(source: &str) -> String {
    let program = source.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    program.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The section of a Markdown file under `## title`, up to the next heading of that level; empty if there is none.
pub fn section<'a>(markdown: &'a str, title: &str) -> &'a str {
    let heading = format!("\n## {title}\n");
    let section = markdown.split(heading.as_str()).nth(1).unwrap_or_default();
    section.split("\n## ").next().unwrap_or_default()
}

/// The code of a Markdown file: each line of a fenced block without its comment, and each text between backquotes. Text
/// in backquotes ends at the latest with its paragraph or row.
pub fn code(markdown: &str) -> Vec<String> {
    let (mut found, mut prose, mut fenced) = (Vec::new(), String::new(), false);
    for line in markdown.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            prose.push_str("\n\n");
        } else if fenced {
            found.push(line.split(" # ").next().unwrap_or_default().trim().to_owned());
        } else {
            // A row of a table and an item of a list stand alone, as a paragraph does.
            let stands_alone = ["|", "- "].iter().any(|start| line.trim_start().starts_with(start));
            prose.push_str(if stands_alone { "\n\n" } else { "\n" });
            prose.push_str(line);
        }
    }
    for paragraph in prose.split("\n\n") {
        found.extend(paragraph.split('`').skip(1).step_by(2).map(|code| code.replace('\n', " ")));
    }
    found
}

/// The first cell of each row of the Markdown's tables, heads included.
pub fn first_cells(markdown: &str) -> impl Iterator<Item = &str> {
    let rows = markdown.lines().filter_map(|line| line.strip_prefix('|'));
    rows.filter_map(|row| row.split('|').next()).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_what_stands_in_backquotes_or_fences() {
        let markdown = "Say `make a\nB=1` or make b.\n\n| `c` | d |\n- an odd ` here\n- `e`\n\n```sh\nmake f   # as make g\n```\n`h`\n";
        assert_eq!(code(markdown), ["make f", "make a B=1", "c", " here", "e", "h"]);
    }

    #[test]
    fn a_section_ends_at_the_next_heading() {
        assert_eq!(section("# x\n\n## A\n\na\n\n### b\n\n## C\n", "A"), "\na\n\n### b\n");
        assert_eq!(section("# x\n\n## A\n", "B"), "");
    }

    #[test]
    fn tests_and_comments_are_not_the_program() {
        assert_eq!(program("/// a\nfn b() {}\n    // c\n#[cfg(test)]\nmod tests {\n"), "fn b() {}");
    }
}
