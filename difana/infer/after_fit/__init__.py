"""What is read off a fit: pulls, impacts, yields, observables, sensitivities."""
