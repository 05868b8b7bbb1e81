"""The operator's orders: what is suspended, dropped or rerouted now, as a fold that every process follows in memory."""
