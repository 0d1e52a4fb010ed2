//! Whose events are those that other producers than ingest write to Kafka.

use event::TenantId;

use crate::settings::Settings;

/// Reads `FOREIGN_TENANT` (`kafka`). `None` if it is no tenant; the settings then know the problem.
pub fn from_settings(settings: &mut Settings<'_>) -> Option<TenantId> {
    let name = settings.or("FOREIGN_TENANT", "kafka".to_owned());
    match TenantId::new(&name) {
        Ok(tenant) => Some(tenant),
        Err(error) => {
            settings.problem(format!("FOREIGN_TENANT={name:?}: {error}"));
            None
        }
    }
}
