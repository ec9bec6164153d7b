"""The load of the chaos harness as a Django application: task types with effects on its ledger."""
