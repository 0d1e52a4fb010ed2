//! Imports point one way.

use checks::layers::violations;
use checks::workspace::Workspace;

#[test]
fn imports_point_one_way() {
    let workspace = Workspace::read().unwrap();
    let members = workspace.members.keys().cloned().collect();
    assert_eq!(violations(&members, &workspace.normal), Vec::<String>::new());
}
