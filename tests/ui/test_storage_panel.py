"""What lies in Finetune's folder."""


def test_the_parts_of_the_folder_are_measured(tab, services):
    (services.host.paths.data / "exported").mkdir(parents=True)
    (services.host.paths.data / "exported" / "a.json").write_bytes(b"x" * 3000)
    shown = tab.storage.measure()
    assert "3.0 KB" in shown and "in all" in shown
