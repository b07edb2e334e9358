"""The parameters of Agent's procedures, in the order in which they may be given without names."""

from jobfac.importers.agent.calls import Call

_SCHEDULE = (
    "enabled", "freq_type", "freq_interval", "freq_subday_type", "freq_subday_interval", "freq_relative_interval",
    "freq_recurrence_factor", "active_start_date", "active_end_date", "active_start_time", "active_end_time",
)  # fmt: skip
_NOTIFY = (
    "notify_level_eventlog", "notify_level_email", "notify_level_netsend", "notify_level_page",
    "notify_email_operator_name", "notify_netsend_operator_name", "notify_page_operator_name", "delete_level",
)  # fmt: skip
_STEP = (
    "job_id", "job_name", "step_id", "step_name", "subsystem", "command", "additional_parameters",
    "cmdexec_success_code", "on_success_action", "on_success_step_id", "on_fail_action", "on_fail_step_id", "server",
    "database_name", "database_user_name", "retry_attempts", "retry_interval", "os_run_priority", "output_file_name",
    "flags", "proxy_id", "proxy_name", "step_uid",
)  # fmt: skip

ORDER: dict[str, tuple[str, ...]] = {
    "sp_add_job": (
        "job_name", "enabled", "description", "start_step_id", "category_name", "category_id", "owner_login_name",
        *_NOTIFY, "job_id", "originating_server",
    ),
    "sp_update_job": (
        "job_id", "job_name", "new_name", "enabled", "description", "start_step_id", "category_name",
        "owner_login_name", *_NOTIFY, "automatic_post",
    ),
    "sp_add_jobstep": _STEP,
    "sp_update_jobstep": _STEP,
    "sp_add_jobschedule": (
        "job_id", "job_name", "name", *_SCHEDULE, "schedule_id", "automatic_post", "schedule_uid",
    ),
    "sp_add_schedule": (
        "schedule_name", *_SCHEDULE, "owner_login_name", "schedule_uid", "schedule_id", "originating_server",
    ),
    "sp_update_schedule": ("schedule_id", "name", "new_name", *_SCHEDULE, "owner_login_name", "automatic_post"),
    "sp_attach_schedule": ("job_id", "job_name", "schedule_id", "schedule_name", "automatic_post"),
    "sp_add_jobserver": ("job_id", "job_name", "server_name", "automatic_post"),
    "sp_add_operator": ("name", "enabled", "email_address", "pager_address"),
    "sp_update_operator": ("name", "new_name", "enabled", "email_address", "pager_address"),
}  # fmt: skip
"""The parameters of each procedure."""

JOB = {
    **{name: name for name in ("enabled", "description", "start_step_id", "delete_level", *_NOTIFY[:4])},
    "category_name": "category",
    "owner_login_name": "owner",
    "notify_email_operator_name": "email_operator",
    "notify_netsend_operator_name": "netsend_operator",
    "notify_page_operator_name": "page_operator",
}
STEP = {
    name: name for name in _STEP if name not in ("job_id", "job_name", "additional_parameters", "proxy_id", "step_uid")
}
SCHEDULE = {**{name: name for name in _SCHEDULE}, "name": "name", "schedule_name": "name"}
"""By parameter, the field of the model that holds it."""

SILENT = frozenset(
    {
        "job_id", "job_name", "new_name", "category_id", "originating_server", "automatic_post", "schedule_id",
        "schedule_uid", "owner_login_name", "additional_parameters", "proxy_id", "step_uid", "job_username",
    }
)  # fmt: skip
"""Parameters that are irrelevant to definitions, or that are read elsewhere."""


def name_positional(call: Call) -> str | None:
    """Name the positional arguments. Returns a description of the mistake, if there is one."""
    order = ORDER[call.procedure]
    if len(call.positional) > len(order):
        return f"{call.procedure} has more arguments than parameters; the call was left out, so correct it"
    for name, (value, output) in zip(order, call.positional, strict=False):
        if name in call.arguments:
            return f"{call.procedure} has @{name} twice; the call was left out, so correct it"
        call.arguments[name] = value
        if output is not None:
            call.outputs[name] = output
    return None
