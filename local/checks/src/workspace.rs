//! What cargo knows of this workspace.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;

use serde::Deserialize;

use crate::layers::Graph;

/// The parts of `cargo metadata` that are needed.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_members: Vec<String>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    manifest_path: PathBuf,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<Kind>,
}

#[derive(Deserialize)]
struct Kind {
    /// `None` is a normal dependency.
    kind: Option<String>,
}

pub struct Workspace {
    /// The crates of this workspace, and the folder of each.
    pub members: BTreeMap<String, PathBuf>,
    /// Normal dependencies of every crate that is linked.
    pub normal: Graph,
}

impl Workspace {
    /// Asks cargo.
    ///
    /// # Errors
    /// If cargo fails or answers something else.
    pub fn read() -> Result<Self, Box<dyn std::error::Error>> {
        let cargo = option_env!("CARGO").unwrap_or("cargo");
        let arguments = ["metadata", "--format-version", "1", "--locked"];
        let output = Command::new(cargo).args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output()?;
        if !output.status.success() {
            return Err(format!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        let metadata: Metadata = serde_json::from_slice(&output.stdout)?;
        let names: BTreeMap<&str, &str> =
            metadata.packages.iter().map(|package| (package.id.as_str(), package.name.as_str())).collect();
        let name = |id: &str| names.get(id).map_or_else(|| id.to_owned(), |name| (*name).to_owned());
        let mut normal = Graph::new();
        for node in &metadata.resolve.nodes {
            let is_normal = |dependency: &&Dependency| dependency.dep_kinds.iter().any(|kind| kind.kind.is_none());
            let linked: BTreeSet<String> = node.deps.iter().filter(is_normal).map(|dep| name(&dep.pkg)).collect();
            normal.entry(name(&node.id)).or_default().extend(linked);
        }
        let is_member = |package: &&Package| metadata.workspace_members.contains(&package.id);
        let folder = |package: &Package| package.manifest_path.parent().map(PathBuf::from).unwrap_or_default();
        let members =
            metadata.packages.iter().filter(is_member).map(|package| (package.name.clone(), folder(package))).collect();
        Ok(Workspace { members, normal })
    }
}
