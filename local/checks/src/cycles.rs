//! Files of one crate that import each other.
//!
//! Reads the text: paths with `crate::`, `super::` and `self::` outside of tests and comments name the file in which the path
//! goes into a module. A file that only declares its modules or re-exports from them (`mod`, `pub use`) imports nothing,
//! so a parent and its children are a cycle only if the parent uses a child and the child uses an item of the parent.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Which file imports which, as paths inside `src`.
pub type Imports = BTreeMap<PathBuf, BTreeSet<PathBuf>>;

/// Reads the imports of a crate whose sources are in `src`.
///
/// # Errors
/// If a file cannot be read.
pub fn imports(src: &Path) -> std::io::Result<Imports> {
    let mut files = BTreeMap::new();
    collect(src, src, &mut files)?;
    Ok(imports_of(&files))
}

fn collect(root: &Path, folder: &Path, files: &mut BTreeMap<PathBuf, String>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(root, &path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root).map(PathBuf::from).unwrap_or_else(|_| path.clone());
            files.insert(name, std::fs::read_to_string(&path)?);
        }
    }
    Ok(())
}

/// The module that a file is: `a/b.rs` and `a/b/mod.rs` are `[a, b]`, `lib.rs` and `main.rs` are `[]`.
fn module_of(file: &Path) -> Vec<String> {
    let mut module: Vec<String> =
        file.with_extension("").components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
    if module.last().is_some_and(|last| ["mod", "lib", "main"].contains(&last.as_str())) {
        module.pop();
    }
    module
}

fn imports_of(files: &BTreeMap<PathBuf, String>) -> Imports {
    let modules: BTreeMap<Vec<String>, &PathBuf> = files
        .keys()
        .filter(|file| file.as_path() != Path::new("main.rs") || !files.contains_key(Path::new("lib.rs")))
        .map(|file| (module_of(file), file))
        .collect();
    let mut imports = Imports::new();
    for (file, text) in files {
        let module = module_of(file);
        let targets = uses(text).into_iter().filter_map(|path| resolve(&path, &module, &modules));
        let targets = targets.filter(|target| target != file);
        imports.entry(file.clone()).or_default().extend(targets);
    }
    imports
}

/// The file in which a path ends: the longest part of it that is a module.
fn resolve(path: &str, module: &[String], modules: &BTreeMap<Vec<String>, &PathBuf>) -> Option<PathBuf> {
    let mut parts = path.split("::").map(str::trim).peekable();
    let mut at: Vec<String> = match parts.next()? {
        "crate" => Vec::new(),
        "self" => module.to_vec(),
        "super" => {
            let mut at = module.to_vec();
            at.pop();
            while parts.next_if_eq(&"super").is_some() {
                at.pop();
            }
            at
        }
        _ => return None,
    };
    for part in parts {
        let mut deeper = at.clone();
        deeper.push(part.to_owned());
        if !modules.contains_key(&deeper) {
            break;
        }
        at = deeper;
    }
    modules.get(&at).map(|file| (*file).clone())
}

/// Every path of the file's own `use` items, one for each leaf; those of tests and re-exports left aside.
fn uses(text: &str) -> Vec<String> {
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let without_comments = |line: &str| line.split("//").next().unwrap_or_default().to_owned();
    let text: String = text.lines().map(without_comments).collect::<Vec<_>>().join("\n");
    let mut found = inline(&text);
    let mut rest = text.as_str();
    while let Some(start) = rest.find("use ") {
        let at_line_start = rest[..start].rsplit('\n').next().is_some_and(|line| line.trim().is_empty());
        let item = &rest[start + 4..];
        let end = item.find(';').unwrap_or(item.len());
        if at_line_start {
            leaves("", &item[..end], &mut found);
        }
        rest = &item[end..];
    }
    found
}

/// Paths inside of code, such as `crate::a::b()`. A path into a group is read as a `use` item.
fn inline(text: &str) -> Vec<String> {
    let starts = ["crate::", "super::"].into_iter().flat_map(|start| text.match_indices(start));
    let is_part_of_path = |char: char| char.is_alphanumeric() || char == '_' || char == ':';
    let path = |(index, _): (usize, &str)| {
        let is_whole = !text[..index].ends_with(|before: char| is_part_of_path(before) || before == '$');
        let end = text[index..].find(|char: char| !is_part_of_path(char)).unwrap_or(text.len() - index);
        let path = &text[index..index + end];
        let is_re_export = text[..index].ends_with("pub use ") || text[..index].ends_with("pub(crate) use ");
        (is_whole && !is_re_export && !path.ends_with("::")).then(|| path.to_owned())
    };
    starts.filter_map(path).collect()
}

/// `a::{b, c::d}` is `a::b` and `a::c::d`.
fn leaves(prefix: &str, tree: &str, found: &mut Vec<String>) {
    let tree = tree.trim();
    let Some((head, group)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or_default().trim();
        if !path.is_empty() {
            found.push(format!("{prefix}{path}"));
        }
        return;
    };
    let prefix = format!("{prefix}{}", head.trim());
    let group = group.rsplit_once('}').map_or(group, |(group, _)| group);
    let (mut depth, mut start) = (0_u32, 0);
    for (index, char) in group.char_indices() {
        match char {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                leaves(&prefix, &group[start..index], found);
                start = index + 1;
            }
            _ => {}
        }
    }
    leaves(&prefix, &group[start..], found);
}

/// Groups of files that import each other, directly or through others.
pub fn cycles(imports: &Imports) -> Vec<Vec<PathBuf>> {
    let reach: BTreeMap<&PathBuf, BTreeSet<&PathBuf>> =
        imports.keys().map(|file| (file, reachable(file, imports))).collect();
    let mut found: Vec<Vec<PathBuf>> = Vec::new();
    for (file, targets) in &reach {
        let mutual = |other: &&&PathBuf| reach.get(**other).is_some_and(|back| back.contains(*file));
        let group: Vec<PathBuf> = targets.iter().filter(mutual).map(|file| (**file).clone()).collect();
        if group.len() > 1 && !found.contains(&group) {
            found.push(group);
        }
    }
    found
}

fn reachable<'a>(file: &PathBuf, imports: &'a Imports) -> BTreeSet<&'a PathBuf> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<&PathBuf> = imports.get(file).into_iter().flatten().collect();
    while let Some(next) = open.pop() {
        if reached.insert(next) {
            open.extend(imports.get(next).into_iter().flatten());
        }
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<Vec<PathBuf>> {
        let files = files.iter().map(|(name, text)| (PathBuf::from(name), (*text).to_owned())).collect();
        cycles(&imports_of(&files))
    }

    #[test]
    fn two_files_that_use_each_other_are_a_cycle() {
        let cycle =
            found(&[("lib.rs", "mod a;\nmod b;"), ("a.rs", "use crate::b::{B, c};"), ("b.rs", "use super::a::A;")]);
        assert_eq!(cycle, [[PathBuf::from("a.rs"), PathBuf::from("b.rs")]]);
        let through = [("a.rs", "use crate::b::B;"), ("b.rs", "use crate::{x, c::C};"), ("c.rs", "use crate::a::A;")];
        assert_eq!(found(&through)[0].len(), 3);
        let inline = [
            ("a.rs", "fn a() { crate::b::b() }\n// crate::c::C"),
            ("b.rs", "use crate::a;"),
            ("c.rs", "use crate::a;"),
        ];
        assert_eq!(found(&inline), [[PathBuf::from("a.rs"), PathBuf::from("b.rs")]]);
    }

    #[test]
    fn a_parent_that_only_declares_and_re_exports_is_no_part_of_one() {
        assert!(found(&[("lib.rs", "mod a;\npub use a::A;"), ("a.rs", "use crate::Item;")]).is_empty());
        let used = [("store/mod.rs", "mod plan;\nuse self::plan::Plan;"), ("store/plan.rs", "use super::Store;")];
        assert_eq!(found(&used).len(), 1);
    }

    #[test]
    fn tests_may_use_what_they_like() {
        let text = "use crate::b::B;\n#[cfg(test)]\nmod tests {\n    use crate::a::A;\n}";
        assert!(found(&[("a.rs", text), ("b.rs", "#[cfg(test)]\nmod tests {\n    use crate::a::A;\n}")]).is_empty());
    }
}
