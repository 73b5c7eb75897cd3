"""The routes of the API and of the page, a file for each subject."""
