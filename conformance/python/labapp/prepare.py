"""Makes the tables of one site: `python -m labapp.prepare`, with the environment that `settings` describes."""

import os

import django
from django.conf import settings
from django.core.management import call_command
from django.db import connection


def main():
    """Migrates, and adds the one table that its package forgot a migration for."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "labapp.settings"
    django.setup()
    call_command("migrate", run_syncdb=True, verbosity=0)
    if settings.PACKAGE == "advanced" and not getattr(settings, "LAB_NO_LOCK_TABLE", False):
        from drf_advanced_token.models import UserAPIKeyLock

        with connection.schema_editor() as editor:
            editor.create_model(UserAPIKeyLock)


if __name__ == "__main__":
    main()
