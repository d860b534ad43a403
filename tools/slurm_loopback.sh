#!/bin/bash
# A real Slurm of one node on this machine, for trying `san run --on slurm`: two processors and two GPUs that do not
# exist. munged, slurmctld and slurmd of Debian's packages slurm-wlm and munge, as root, on loopback, without systemd.
#
#   tools/slurm_loopback.sh install     # apt-get update, then the packages
#   tools/slurm_loopback.sh start       # then: export SLURM_CONF=/tmp/san-slurm/slurm.conf
#   tools/slurm_loopback.sh stop
set -euo pipefail

folder=${SAN_SLURM_FOLDER:-/tmp/san-slurm}
export SLURM_CONF=$folder/slurm.conf

install() {
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurm-wlm munge
}

configure() {
    mkdir -p "$folder"/{state,spool,munge}
    chmod 700 "$folder/munge"
    [ -e "$folder/munge/key" ] || dd if=/dev/urandom of="$folder/munge/key" bs=128 count=1 status=none
    chmod 600 "$folder/munge/key"
    host=$(hostname -s)
    memory=$(awk '/^MemTotal/ {print int($2 / 1024)}' /proc/meminfo)
    cat >"$SLURM_CONF" <<END
ClusterName=loopback
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
MpiDefault=none
ReturnToService=2
KillWait=15
MaxArraySize=200
GresTypes=gpu
JobRequeue=1
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
SlurmctldPort=16817
SlurmdPort=16818
NodeName=$host NodeAddr=127.0.0.1 CPUs=2 RealMemory=$memory Gres=gpu:2 State=UNKNOWN
PartitionName=all Nodes=$host Default=YES MaxTime=INFINITE State=UP
END
    # Two GPUs that are none: a task sees one of them in CUDA_VISIBLE_DEVICES.
    printf 'Name=gpu File=/dev/%s\n' null zero >"$folder/gres.conf"
}

start() {
    configure
    munged --force --key-file="$folder/munge/key" --socket="$folder/munge/socket" \
        --pid-file="$folder/munge/pid" --log-file="$folder/munge/log" --seed-file="$folder/munge/seed"
    slurmctld
    slurmd
    for _ in $(seq 60); do
        if sinfo --noheader --format=%T 2>/dev/null | grep -q idle; then
            echo "export SLURM_CONF=$SLURM_CONF"
            return
        fi
        sleep 0.5
    done
    echo "Slurm did not come up; see $folder/*.log" >&2
    return 1
}

stop() {
    for pid in "$folder/slurmd.pid" "$folder/slurmctld.pid" "$folder/munge/pid"; do
        if [ -e "$pid" ]; then
            kill "$(cat "$pid")" 2>/dev/null || true
        fi
    done
}

case ${1:-} in
install | start | stop) "$1" ;;
*)
    sed -n '2,8p' "$0" >&2
    exit 2
    ;;
esac
