//! Runs the statistics contract on its fake.

use statistics::Cells;
use testkit::contracts::statistics::statistics_contract;
use testkit::fakes::statistics::FakeStatistics;

#[tokio::test]
async fn the_fake_keeps_the_contract() {
    let fake = FakeStatistics::default();
    statistics_contract(&fake, async |cells: &Cells| fake.add(cells)).await;
}
