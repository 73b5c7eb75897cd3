"""Work in processes of its own: forecasts, pictures, a model that answers."""
