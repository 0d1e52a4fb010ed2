//! No two files import each other.

use checks::cycles::{cycles, imports};
use checks::workspace::Workspace;

#[test]
fn no_files_import_each_other() {
    let mut found = Vec::new();
    for (name, folder) in Workspace::read().unwrap().members {
        for cycle in cycles(&imports(&folder.join("src")).unwrap()) {
            let files: Vec<String> = cycle.iter().map(|file| file.display().to_string()).collect();
            found.push(format!("{name}: {}", files.join(" <-> ")));
        }
    }
    assert!(found.is_empty(), "files that import each other:\n{}", found.join("\n"));
}
