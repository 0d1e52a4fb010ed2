//! `make openapi`: writes the OpenAPI document and its page.

fn main() -> anyhow::Result<()> {
    for (path, text) in contract::made_files()? {
        std::fs::write(contract::in_repository(path), text)?;
    }
    Ok(())
}
